"""What people look at afterwards: activity, monthly statements, yearly summaries, and receipts that prove a payment."""
