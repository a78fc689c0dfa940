/** Options that are valid, but name what cannot be used: one line and status 1. */
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { backend, files, forEachRow, run, usable } from './command-line.ts';

t.test('an option that cannot be used is one line that names it, and status 1', async (t) => {
  const busy = createServer();
  busy.listen(0, '127.0.0.1');
  await once(busy, 'listening');
  const address = busy.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  await mkdir(join(files, 'open'));
  await chmod(join(files, 'open'), 0o755);
  await writeFile(join(files, 'loose'), '*:*:*:*:x\n', { mode: 0o644 });
  await writeFile(join(files, 'not-pem'), 'hello');
  await mkdir(join(files, 'damaged'), { mode: 0o700 });
  await writeFile(join(files, 'damaged', 'settings.1.json'), '{"format":');
  const rows: [string, string[], RegExp][] = [
    ['port in use', [...usable, '--listen', `127.0.0.1:${port}`], /127\.0\.0\.1:\d+.*EADDRINUSE/],
    [
      'metrics port in use',
      [...usable, '--metrics-listen', `127.0.0.1:${port}`],
      /--metrics-listen.*EADDRINUSE/,
    ],
    [
      'password file missing',
      ['--backend', backend, '--backend-passfile', 'missing'],
      /--backend-passfile.*missing/,
    ],
    [
      'password file open to others',
      ['--backend', backend, '--backend-passfile', 'loose'],
      /--backend-passfile.*loose.*0600/,
    ],
    [
      'root certificate',
      ['--backend', 'postgres://db.test?sslrootcert=/nowhere.crt', '--backend-auth', 'trust'],
      /--backend.*nowhere\.crt/,
    ],
    [
      'password file of the directory',
      [...usable, '--directory', 'postgres://d@h/db?passfile=nope'],
      /--directory.*nope/,
    ],
    [
      'setting without the directory',
      [...usable, '--data-dir', 'no-directory', '--set', 'security.provisioning.jwt.enabled=on'],
      /security\.provisioning\.jwt\.enabled.*--directory/,
    ],
    [
      'certificate missing',
      [...usable, '--tls-cert', 'nope', '--tls-key', 'nope'],
      /--tls-cert.*nope/,
    ],
    [
      'certificate that is none',
      [...usable, '--tls-cert', 'not-pem', '--tls-key', 'not-pem'],
      /--tls-cert not-pem/,
    ],
    ['data dir open to others', [...usable, '--data-dir', 'open'], /--data-dir.*chmod 700/],
    ['data dir is a file', [...usable, '--data-dir', 'loose'], /--data-dir/],
    ['damaged settings', [...usable, '--data-dir', 'damaged'], /settings\.1\.json/],
  ];
  await forEachRow(rows, async ([name, args, text], index) => {
    const { status, stderr } = await run(['serve', '--data-dir', `data-${index}`, ...args]);
    const complaint = stderr.split('\n').filter((line) => line.startsWith('pgsso: '));
    t.match({ status, complaint }, { status: 1, complaint: [text] }, name);
    t.notMatch(stderr, /\n\s+at /, `${name}: no stack`);
  });
  busy.close();
});
