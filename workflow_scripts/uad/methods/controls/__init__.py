"""Control methods: upper and lower bounds that validate the metrics."""
