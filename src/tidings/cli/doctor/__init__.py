"""`tidings doctor`: measures what stands between here and a stream, and says what to change.

`measure` connects and writes down what it sees, `judging` and its rules find what that means, `report` prints it.
"""
