"""What people do with money: orders, acceptance, refunds. Stands on clearing and the ledger."""
