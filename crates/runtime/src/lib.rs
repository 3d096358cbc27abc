//! Process frame: arguments, logs, signals, health, metrics, drain
