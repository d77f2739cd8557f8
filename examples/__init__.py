"""Programs to run and to read.

demo         orders, a broker that forgets, and a worker that is killed
agent        a loop that asks a person before it uses a tool
every_node   one workflow with every kind of node in it
tested       a shop and its tests, which find a step that is not repeatable
stage        what agent and every_node stand on: Postgres, a broker, a worker
"""
