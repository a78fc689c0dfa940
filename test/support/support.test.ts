/**
 * The helpers of other tests, where a fault would make those tests wrong: the reporter counts
 * results correctly, certificates are valid, templates of clusters are whole and our own, and a
 * killed test leaves no server behind.
 */

import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { time } from '../../src/lib/x509/der.ts';
import { makeAuthority } from './certificates.ts';
import { nodeCommand } from './node-command.ts';
import { keepTemplate, templateDirectory } from './postgres-template.ts';
import Reporter from './reporter.ts';

async function report(...lines: string[]): Promise<string> {
  const reporter = new Reporter();
  reporter.end(`TAP version 14\n${lines.join('\n')}\n`);
  return await text(reporter);
}

function lastLine(output: string): string | undefined {
  return output.trimEnd().split('\n').at(-1);
}

t.test('the reporter counts assertions, not the tests that group them', async (t) => {
  const group = [
    '# Subtest: a.test.js',
    '    ok 1 - one',
    '    not ok 2 - two',
    '    ok 3 - three # SKIP no psql',
    '    1..3',
  ];
  const output = await report(...group, 'not ok 1 - a.test.js', '1..1');
  t.equal(lastLine(output), '1 passed, 1 failed, 1 skipped');
  t.match(output, 'FAILED  a.test.js > two');
});

t.test('a file that exits with an error after good assertions is a failure', async (t) => {
  const output = await report(
    '# Subtest: a.test.js',
    '    ok 1 - one',
    '    1..1',
    'not ok 1 - a.test.js',
    '1..1',
  );
  t.equal(lastLine(output), '1 passed, 1 failed');
});

t.test('an unfulfilled plan is a failure', async (t) => {
  t.equal(lastLine(await report('ok 1 - one', '1..2')), '1 passed, 1 failed');
});

t.test('certificates', async (t) => {
  const authority = makeAuthority();
  const root = new X509Certificate(authority.cert);

  t.test('are signed by their authority and carry every name', async (t) => {
    const names = ['localhost', '*.example.com', '127.0.0.1', '::1', '2001:db8::ff'];
    const leaf = new X509Certificate(authority.issue({ cn: 'front', san: names }).cert);
    t.ok(leaf.verify(root.publicKey));
    t.ok(leaf.checkIssued(root));
    t.notOk(leaf.ca);
    t.ok(root.ca);
    t.ok(leaf.checkHost('localhost') && leaf.checkHost('a.example.com'));
    t.ok(leaf.checkIP('127.0.0.1') && leaf.checkIP('::1') && leaf.checkIP('2001:db8::ff'));
  });

  t.test('fit a key that is given', async (t) => {
    const { key } = authority.issue({ cn: 'first' });
    const again = authority.issue({ cn: 'second', key });
    t.equal(again.key, key);
  });
});

t.test('times have another form from 2050 on', async (t) => {
  t.equal(time(new Date('2049-12-31T23:59:59.999Z')).toString('latin1'), '\x17\x0d491231235959Z');
  t.equal(time(new Date('2050-01-01T00:00:00Z')).toString('latin1'), '\x18\x0f20500101000000Z');
});

t.test('templates of clusters', async (t) => {
  const parent = await mkdtemp(join(tmpdir(), 'pgsso-support-'));
  t.teardown(() => rm(parent, { recursive: true, force: true }));

  t.test('are not taken from a place that somebody else can write to', async (t) => {
    const uid = process.getuid?.() ?? 0;
    t.equal(templateDirectory(uid + 1, parent), undefined, 'it belongs to another user');
    const own = templateDirectory(uid, parent) ?? '';
    t.match(own, parent);
    await chmod(own, 0o777);
    t.equal(templateDirectory(uid, parent), undefined, 'all can write');
    await rename(own, `${own}-real`);
    await chmod(`${own}-real`, 0o755);
    await symlink(`${own}-real`, own);
    t.equal(templateDirectory(uid, parent), undefined, 'it is a link');
  });

  t.test('get their name when they are complete, and the first one stays', async (t) => {
    const data = join(parent, 'data');
    const kept = join(parent, 'kept');
    const abandoned = join(parent, 'kept.unfinished-killed');
    await Promise.all([data, abandoned].map((path) => mkdir(path)));
    await utimes(abandoned, 0, 0);
    await writeFile(join(data, 'PG_VERSION'), '18', { mode: 0o600 });
    await Promise.all(Array.from({ length: 5 }, () => keepTemplate(data, kept)));
    await writeFile(join(data, 'PG_VERSION'), '19');
    await keepTemplate(data, kept);
    t.equal(await readFile(join(kept, 'PG_VERSION'), 'utf8'), '18');
    t.equal((await stat(join(kept, 'PG_VERSION'))).mode & 0o777, 0o600);
    t.notOk((await readdir(parent)).some((name) => name.includes('unfinished')));
  });
});

t.test('PostgreSQL ends with the process that started it, even if that is killed', async (t) => {
  const launcher = new URL('postgres.js', import.meta.url);
  const program = `
    const server = await (await import('${launcher}')).startPostgres();
    process.stdout.write(server.dataDir + '\\n' + server.port, () =>
      process.kill(process.pid, 'SIGKILL'),
    );
  `;
  const child = spawn(...nodeCommand('--input-type=module', '--eval', program), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output, [, signal]] = await Promise.all([buffer(child.stdout), once(child, 'exit')]);
  const [dataDir = ''] = output.toString().split('\n');
  t.equal(signal, 'SIGKILL');
  t.match(dataDir, 'pgsso-pg-');
  while (existsSync(dataDir)) await sleep(20);
  t.notOk(existsSync(dataDir));
});
