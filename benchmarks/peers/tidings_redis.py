"""The same on a redis-server that was started before, in the same folder."""

from benchmarks.peers.tidings_answers import answers_app
from benchmarks.peers.tidings_channels import HISTORY, channels_app
from benchmarks.redis_server import URL
from tidings import Broker

app = channels_app(Broker(URL.read_text()))
retained = channels_app(Broker(URL.read_text(), history=HISTORY))
answers = answers_app(Broker(URL.read_text()))
