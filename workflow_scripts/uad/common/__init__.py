"""What no stage owns: files, volumes, tables, the store, errors, seeds."""
