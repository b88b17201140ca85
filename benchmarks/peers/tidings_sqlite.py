"""The same on a file, which is in the folder that its server was started in."""

from benchmarks.peers.tidings_answers import answers_app
from benchmarks.peers.tidings_channels import HISTORY, channels_app
from tidings import Broker

app = channels_app(Broker("sqlite:///channels.db"))
retained = channels_app(Broker("sqlite:///channels.db", history=HISTORY))
answers = answers_app(Broker("sqlite:///channels.db"))
