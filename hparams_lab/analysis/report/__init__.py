"""The report: a log directory's answer as one HTML page that needs nothing else.

`study` puts the trials in order; `facts` tells in words, `plots`, `pair`, `parallel` and `curves` in figures;
`sections` lays them out, `page` makes the file, `pictures` and `predictions` are its two extras.
"""
