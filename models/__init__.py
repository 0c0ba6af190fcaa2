"""What is measured: the catalogue of models, their modules, weights and preprocessing.

This package must not know any device, any engine or pytest.
"""
