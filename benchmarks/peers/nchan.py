"""nchan: a module of nginx that turns it into a server of channels, written in C. For scale, and to be beaten."""

import os
import shutil
import subprocess
from pathlib import Path

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
SBIN = "/usr/sbin:/sbin:/usr/local/sbin"

# One worker, as the other peers have one process. It keeps more than a burst; each publish is answered once its
# message is in the channel.
CONFIGURATION = """\
load_module {module};
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_body_in_single_buffer on;
    client_body_buffer_size 64k;
    nchan_shared_memory_size 256m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /subscribe {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_channel;
            nchan_subscriber_first_message newest;
        }}
        location = /publish {{
            nchan_publisher;
            nchan_channel_id $arg_channel;
            nchan_message_buffer_length 10000;
            nchan_message_timeout 60s;
        }}
    }}
}}
"""


def nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{SBIN}")


def missing() -> str | None:
    if nginx() and MODULE.exists():
        return None
    return "nginx with nchan isn't installed here: apt-get install nginx-light libnginx-mod-nchan"


def version() -> str:
    """As Debian numbers the module, which can't be asked itself."""
    try:
        asked = subprocess.run(
            ["dpkg-query", "--show", "--showformat", "${Version}", "libnginx-mod-nchan"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown" if MODULE.exists() else "not installed"
    return asked.stdout.rpartition(":")[2]


def command(port: int, folder: Path) -> list[str]:
    # A worker of root's would else become nobody, who may not enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(module=MODULE, port=port, user=user))
    return [nginx() or "nginx", "-e", "stderr", "-p", str(folder), "-c", str(configuration)]
