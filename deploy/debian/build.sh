#!/bin/sh
# Builds the Debian package: deploy/debian/build.sh [FOLDER], by default in build/debian. Needs
# dpkg-deb and npm. The package holds the run-time dependencies and no compiler, so that an
# installation fetches and builds nothing.
set -eu
umask 022

cd "$(dirname "$0")/../.."
out=${1:-build/debian}
version=$(node -p "require('./package.json').version")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"

lib=$root/usr/lib/pgsso
install -d "$lib/build"
cp package.json package-lock.json "$lib"
cp -r build/src "$lib/build/src"
find "$lib/build" -name '*.map' -delete
(cd "$lib" && npm ci --omit=dev --ignore-scripts --prefer-offline --no-audit --no-fund --silent)
rm "$lib/package-lock.json" "$lib/node_modules/.package-lock.json"
chmod 0755 "$lib/build/src/cli.js"
install -d "$root/usr/bin"
ln -s ../lib/pgsso/build/src/cli.js "$root/usr/bin/pgsso"

install -D -m 0644 deploy/systemd/pgsso.service "$root/usr/lib/systemd/system/pgsso.service"
install -D -m 0644 deploy/debian/sysusers.conf "$root/usr/lib/sysusers.d/pgsso.conf"
install -D -m 0640 deploy/debian/pgsso.env "$root/etc/pgsso/pgsso.env"
install -D -m 0644 man/pgsso.1 "$root/usr/share/man/man1/pgsso.1"
gzip -9n "$root/usr/share/man/man1/pgsso.1"
doc=$root/usr/share/doc/pgsso
install -d "$doc"
install -m 0644 LICENSE "$doc/copyright"
install -m 0644 README.md "$doc/README.md"
cp -r docs "$doc/docs"
gzip -9nc CHANGELOG.md > "$doc/changelog.gz"

install -d "$root/DEBIAN"
size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$size/" deploy/debian/control > "$root/DEBIAN/control"
echo /etc/pgsso/pgsso.env > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 0755 "deploy/debian/$script" "$root/DEBIAN/$script"
done

mkdir -p "$out"
dpkg-deb --root-owner-group --build "$root" "$out/pgsso_${version}_all.deb"
