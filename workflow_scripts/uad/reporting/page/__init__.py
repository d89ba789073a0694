"""The report: one folder with `index.html` that opens from disk, without server or network.

`build` puts it together; each part of the page has a module that gathers its data from the run's files:
`breakdown` (cohorts, sites, lesion sizes), `comparisons` (significance), `quality` (preprocessing), `costs` (time and
memory), `origins` (provenance), `scans` (volumes for the viewer), `niivue` (the viewer's library).
"""
