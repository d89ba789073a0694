"""The report's page: one folder with `index.html` that opens from disk, without server or network.

`spec.yaml` lists its sections, `sections` has a function for each, `build` puts them together. The data come from
`run` (the run's files), `breakdown` (cohorts, sites, lesion sizes), `comparisons` (significance), `quality`
(preprocessing), `costs` (time and memory), `origins` (provenance), `scans` (volumes for the viewer), `niivue` (the
viewer's library).
"""
