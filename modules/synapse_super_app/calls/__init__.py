"""The Synapse shell of calls: the gate and the follower of call events, screening, timers, history, TURN."""
