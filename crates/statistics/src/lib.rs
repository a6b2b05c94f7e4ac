//! What was measured: counters and histograms of every upstream group, server and switch key, windows over them, and
//! how they are shown.
//!
//! Owns: the numbers and what they are called. Must never: read a clock, or cost a request more than some nanoseconds.
