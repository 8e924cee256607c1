"""Pages: what a run leaves to be read in a browser. One HTML file with everything in it, SVG written by hand.

Colours are CSS variables and classes, so that one drawing serves light and dark screens.
"""
