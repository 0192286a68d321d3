//! Esker's storage engines.
