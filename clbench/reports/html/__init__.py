"""The report: one HTML file of runs, their curves and tables, which opens from the disk without a server or a network.

sources      runs below some folders, with what the report draws of their traces
boards       the methods of each board, as the leaderboard groups them
curves       mean and band over seeds, on a common grid of updates
front        methods that no other one beats in both accuracy and cost
sections/    one module for each section: plain values for its template and for its figures
templates/   Jinja templates; every value is escaped
static/      the style and the scripts, written into the page
page         the whole file
"""
