"""The Synapse shell of requests for money: the gate and the follower of their events, their routes and outbox."""
