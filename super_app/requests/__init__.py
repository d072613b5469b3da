"""Asking for money: who asks whom for what, what they answer, and which payment answers it. Moves no money itself."""
