"""Reports: the four answers as JSON, as a table in the terminal and as one self-contained HTML file.

Everything but `tutelage.report.answers` works on the mapping that ``report.json`` holds and imports no torch.
"""
