"""MLPerf LoadGen: the bridge to the library, the reader of its logs, and the four scenarios on a prepared case."""
