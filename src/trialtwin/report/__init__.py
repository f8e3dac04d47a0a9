"""One self-contained page that shows findings and estimates: figures drawn from tables, HTML that loads nothing."""
