"""Feature maps phi of linear attention: what a query and a key become before they meet in a product.

`registry.py` defines maps and how to add one, `maps.py` has those of the literature, `projections.py` draws
random projections, `rows.py` and `function.py` are the Triton kernels that make features of whole rows, and
`quality.py` measures how well linear attention with a map approximates softmax attention. README.md has the bytes.
"""
