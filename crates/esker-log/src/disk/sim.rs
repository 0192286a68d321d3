//! A simulated disk with faults.
