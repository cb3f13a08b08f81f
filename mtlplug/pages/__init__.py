"""Tables, charts and self-contained pages: how results are shown, whatever they are of."""
