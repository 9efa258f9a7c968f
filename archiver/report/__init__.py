"""The look of results, for people and as JSON: summaries of jobs, contents of archives.

Everything here is pure: values in, a rich renderable, a line or a JSON-able dict out.
"""
