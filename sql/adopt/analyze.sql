-- What the planner of the next load should know.
analyze {{ table | table }}
