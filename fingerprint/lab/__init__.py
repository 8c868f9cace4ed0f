"""Everything that makes and measures a model; the product never imports it."""
