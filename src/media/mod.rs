//! Media sessions: RTP of one leg, the playout queue of its agent, the 20 ms tick.
