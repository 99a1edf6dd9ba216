"""What turns charts and tables into a page, pictures and documents."""
