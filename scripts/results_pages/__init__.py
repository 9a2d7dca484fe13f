"""What scripts/ledger.py makes of the ledger's comparisons: a page of every study, and figures."""
