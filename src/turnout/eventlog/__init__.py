"""The event log of one worker: records appended in memory, flushed to segment files, shipped by the recorder."""
