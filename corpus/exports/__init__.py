"""Writers of the field's own formats; what they write, `corpus.sources` reads back."""
