#!/bin/bash
# User data of a node: brings the agent and its configuration from the bucket and starts it. An image that has the
# package already (in /opt/springtide, with the release in its file `release`) is quicker.
set -euo pipefail

# A machine on which this fails can't say so to anybody but its console: it powers itself off, and is gone.
trap 'echo "springtide: the node can not be started; powering off" >&2; sync; systemctl poweroff' ERR

export SPRINGTIDE_BUCKET='${bucket}' SPRINGTIDE_REGION='${region}'
install -m 0755 /dev/stdin /usr/local/bin/springtide-s3 <<'SPRINGTIDE_S3'
${s3_py}
SPRINGTIDE_S3

if [ "$(cat /opt/springtide/release 2>/dev/null || true)" != '${release}' ]; then
    springtide-s3 get 'release/${release}/${package}.tar.gz' /var/tmp/springtide.tar.gz
    mkdir -p /opt/springtide
    tar -xzf /var/tmp/springtide.tar.gz -C /opt/springtide
    rm /var/tmp/springtide.tar.gz
fi

id springtide >/dev/null 2>&1 || useradd --system --home-dir /var/lib/springtide --shell /usr/sbin/nologin springtide
for group in video render; do
    if getent group "$group" >/dev/null; then usermod --append --groups "$group" springtide; fi
done
install -d -m 0750 -o springtide -g springtide /var/lib/springtide
install -d -m 0755 /etc/springtide
springtide-s3 get config/node.toml /etc/springtide/springtide.toml
chown root:springtide /etc/springtide/springtide.toml
chmod 0640 /etc/springtide/springtide.toml

# Its id is its instance's: that is how the autoscaler knows it.
instance=$(python3 - <<'PYTHON'
import urllib.request
url = "http://169.254.169.254/latest/"
ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
token = urllib.request.urlopen(urllib.request.Request(url + "api/token", method="PUT", headers=ttl), timeout=10).read().decode()
head = {"X-aws-ec2-metadata-token": token}
print(urllib.request.urlopen(urllib.request.Request(url + "meta-data/instance-id", headers=head), timeout=10).read().decode())
PYTHON
)
cat >/etc/springtide/node-agent.env <<ENVIRONMENT
SPRINGTIDE__NODE__ID=$instance
SPRINGTIDE__NODE__POOL=${pool}
SPRINGTIDE__NODE__LANE=${lane}
SPRINGTIDE__NODE__MAX_CONCURRENT_TASKS=${slots}
ENVIRONMENT

cp /opt/springtide/systemd/springtide-node-agent.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now springtide-node-agent.service
