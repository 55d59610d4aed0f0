"""Around the page: launch, routes, the HTTP interface, looks."""
