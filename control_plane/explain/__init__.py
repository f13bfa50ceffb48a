"""``isg explain``: the decision for one request, step by step, from the same messages and by the same code that serve.

What Envoy does is read from the translated resources (routes, filters in their order, reply mappers); what the two
services do, they do themselves. Whatever in those resources is not understood here is an error, never passed over.
"""
