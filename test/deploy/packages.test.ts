/** What is installed: the unit, the Debian package, and the files of the npm package. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { version } from '../../src/server/options.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

function run(command: string, ...args: string[]): SpawnSyncReturns<string> {
  // The compression of the package is not what is tested, and takes longest.
  const env = { ...process.env, DPKG_DEB_COMPRESSOR_TYPE: 'none' };
  return spawnSync(command, args, { cwd: root, encoding: 'utf8', env });
}

/** A reason to skip a test that needs a program. */
const missing = (...commands: string[]): string | false => {
  const absent = commands.filter((command) => run(command, '--version').error);
  return absent.length > 0 ? `${absent.join(', ')}: not installed` : false;
};

t.test(
  'systemd rates the exposure of the unit below 2.5',
  { skip: missing('systemd-analyze') },
  async (t) => {
    const unit = 'deploy/systemd/pgsso.service';
    const args = ['security', '--offline=true', '--threshold=25', unit];
    const { status, stdout, stderr } = run('systemd-analyze', ...args);
    t.equal(status, 0, stdout + stderr);
    t.match(stdout, /Overall exposure level for pgsso.service: [012]\.\d/);
  },
);

t.test('the Debian package', { skip: missing('dpkg-deb', 'npm') }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pgsso-deb-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const built = run('sh', 'deploy/debian/build.sh', folder);
  t.equal(built.status, 0, built.stderr);
  const file = join(folder, `pgsso_${version}_all.deb`);
  t.match(run('dpkg-deb', '--field', file).stdout, /^Depends: nodejs \(>= 20\.19\)/m);
  const megabytes = statSync(file).size / 1e6;
  t.ok(megabytes < 30, `${megabytes.toFixed(1)} MB`);

  const installed = join(folder, 'root');
  t.equal(run('dpkg-deb', '--extract', file, installed).status, 0);
  const pgsso = join(installed, 'usr/bin/pgsso');
  t.match(run(pgsso, '--version').stdout, version);
  t.match(run(pgsso, 'serve', '--help').stdout, /--listen/);
  t.match(
    run('dpkg-deb', '--contents', file).stdout,
    /-rw-r----- root\/root .* \.\/etc\/pgsso\/pgsso\.env/,
  );
  t.match(run('dpkg-deb', '--info', file, 'conffiles').stdout, '/etc/pgsso/pgsso.env');
  for (const script of ['postinst', 'prerm', 'postrm'])
    t.match(run('dpkg-deb', '--info', file, script).stdout, /^#!\/bin\/sh\n/);

  const base = join(folder, 'base');
  const dpkg = [
    ...[`--root=${base}`, '--force-not-root', '--force-depends', '--force-script-chrootless'],
    ...['--log=/dev/null', '--install', file],
  ];
  if (process.getuid?.() !== 0 || run('systemd-sysusers', '--version').error) return;
  t.equal(run('mkdir', '-p', base).status, 0);
  const { status, stderr } = run('dpkg', ...dpkg);
  t.equal(status, 0, stderr);
  t.match(readFileSync(join(base, 'etc/passwd'), 'utf8'), /^pgsso:.*:\/var\/lib\/pgsso:/m);
});

t.test('the npm package has what runs, and the manual', { skip: missing('npm') }, async (t) => {
  const { stdout } = run('npm', 'pack', '--dry-run', '--json', '--ignore-scripts');
  const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }];
  const paths = files.map(({ path }) => path);
  for (const wanted of [
    ...['build/src/cli.js', 'README.md', 'LICENSE', 'CHANGELOG.md', 'docs/errors.md'],
    ...['man/pgsso.1', 'deploy/systemd/pgsso.service'],
  ])
    t.ok(paths.includes(wanted), wanted);
  t.strictSame(
    paths.filter((path) => !/^(?:build\/src|docs|deploy|man)\/|^[\w.]+$/.test(path)),
    [],
  );
  t.strictSame(
    paths.filter((path) => path.endsWith('.map')),
    [],
  );
});
