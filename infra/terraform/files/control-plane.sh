#!/bin/bash
# User data of the control plane: mounts the store's volume, starts RabbitMQ (unless it is Amazon's), tells nodes where it
# is, makes the first tokens, and starts the control plane and the autoscaler. Safe to run again.
set -euo pipefail

export SPRINGTIDE_BUCKET='${bucket}' SPRINGTIDE_REGION='${region}'
install -m 0755 /dev/stdin /usr/local/bin/springtide-s3 <<'SPRINGTIDE_S3'
${s3_py}
SPRINGTIDE_S3

# The volume is attached after the instance has started.
device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(volume, "-", "")}
for _ in $(seq 300); do
    [ -e "$device" ] && break
    sleep 1
done
[ -e "$device" ] || { echo "springtide: the store's volume ${volume} is not attached" >&2; exit 1; }
blkid "$device" >/dev/null || mkfs.ext4 -q -L springtide "$device"
mkdir -p /var/lib/springtide
grep -q LABEL=springtide /etc/fstab || echo 'LABEL=springtide /var/lib/springtide ext4 defaults,nofail 0 2' >>/etc/fstab
mountpoint -q /var/lib/springtide || mount /var/lib/springtide
id springtide >/dev/null 2>&1 || useradd --system --home-dir /var/lib/springtide --shell /usr/sbin/nologin springtide
chown springtide:springtide /var/lib/springtide
install -d -m 0700 /var/lib/springtide/secrets
install -d -m 0755 /etc/springtide
secrets=/var/lib/springtide/secrets

if [ "$(cat /opt/springtide/release 2>/dev/null || true)" != '${release}' ]; then
    springtide-s3 get 'release/${release}/control-plane.tar.gz' /var/tmp/springtide.tar.gz
    mkdir -p /opt/springtide
    tar -xzf /var/tmp/springtide.tar.gz -C /opt/springtide
    rm /var/tmp/springtide.tar.gz
fi

umask 077
address=$(hostname -I | cut -d ' ' -f 1)
if [ '${broker}' = instance ]; then
    export DEBIAN_FRONTEND=noninteractive
    command -v rabbitmqctl >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends rabbitmq-server; }
    systemctl enable --now rabbitmq-server.service
    rabbitmqctl await_startup --timeout 120
    [ -s "$secrets/broker" ] || head -c 24 /dev/urandom | base64 | tr -d '+/=\n' >"$secrets/broker"
    password=$(cat "$secrets/broker")
    rabbitmqctl add_vhost springtide 2>/dev/null || true
    rabbitmqctl add_user springtide "$password" 2>/dev/null || rabbitmqctl change_password springtide "$password"
    rabbitmqctl set_permissions -p springtide springtide '.*' '.*' '.*'
    rabbitmqctl delete_user guest 2>/dev/null || true
    broker_url="amqp://springtide:$password@$address:5672/springtide"
else
    springtide-s3 get config/broker.url "$secrets/broker.url"
    broker_url=$(cat "$secrets/broker.url")
fi

springtide-s3 get config/cluster.toml /etc/springtide/springtide.toml
chmod 0644 /etc/springtide/springtide.toml
printf 'SPRINGTIDE__BROKER__URL=%s\n' "$broker_url" >/etc/springtide/control-plane.env
{
    cat /etc/springtide/springtide.toml
    printf '\n[broker]\nurl = "%s"\n' "$broker_url"
} >"$secrets/node.toml"
springtide-s3 put "$secrets/node.toml" config/node.toml

# Made in the store itself, before anybody listens.
token() { # NAME SCOPES
    [ -s "$secrets/$1.token" ] || runuser -u springtide -- /opt/springtide/bin/springtide tokens create "$1" \
        --scope "$2" --config /etc/springtide/springtide.toml >"$secrets/$1.token"
}
token admin submit,read,operate
token autoscaler read,operate
token prometheus read
[ -s "$secrets/alerts.token" ] || head -c 24 /dev/urandom | base64 | tr -d '+/=\n' >"$secrets/alerts.token"

cat >/etc/springtide/autoscaler.env <<ENVIRONMENT
SPRINGTIDE__AUTOSCALER__TOKEN=$(cat "$secrets/autoscaler.token")
SPRINGTIDE__AUTOSCALER__ALERTS__TOKEN=$(cat "$secrets/alerts.token")
ENVIRONMENT

# The pools may have changed since: the autoscaler's configuration is fetched each time that it starts.
mkdir -p /etc/systemd/system/springtide-autoscaler.service.d
cat >/etc/systemd/system/springtide-autoscaler.service.d/configuration.conf <<'UNIT'
[Service]
Environment=SPRINGTIDE_BUCKET=${bucket} SPRINGTIDE_REGION=${region}
ExecStartPre=+/usr/local/bin/springtide-s3 get config/autoscaler.toml /etc/springtide/autoscaler.toml
UNIT
cp /opt/springtide/systemd/springtide-control-plane.service /opt/springtide/systemd/springtide-autoscaler.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now springtide-control-plane.service springtide-autoscaler.service
