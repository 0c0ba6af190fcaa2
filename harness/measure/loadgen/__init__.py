"""MLPerf LoadGen: the bridge to it, its logs, and the four scenarios on a prepared case."""
