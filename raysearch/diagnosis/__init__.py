"""What may keep a search from running on this machine or cluster, found before it costs money.

What runs on a node is plain Python and knows nothing of Ray; judging what came back is a function
of its own, so that each verdict can be shown on a made-up answer. Nothing is imported here: nodes
import the one module that they are asked to run.
"""
