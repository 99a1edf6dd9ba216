"""Renderers: they turn charts and tables into a page, pictures and documents."""
