-- Tell the planner what a load holds before anybody reads it.
analyze {{ table | table }}
