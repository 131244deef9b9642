"""What the event log says about an experiment, as data: reports and explanations. Rendering is elsewhere."""
