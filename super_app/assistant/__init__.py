"""What the assistant understands and how it says things. Owns words; sends nothing and decides nothing about money."""
