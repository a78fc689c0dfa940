/**
 * What `npm run bench` compares: front-ends in front of one backend. Each is a process of its own,
 * whose CPU time and memory are read from /proc.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { serverUser } from '../test/support/postgres-install.ts';

/** A process and what it has used so far, its children included. */
export interface Program {
  readonly name: string;
  readonly port: number;
  /** User and system CPU time, in seconds. */
  cpuSeconds(): number;
  /** Resident memory, in kB. */
  residentKb(): number;
  stop(): Promise<void>;
}

/** A certificate for a program that clients connect to by TLS: paths of PEM files. */
export interface ServerCertificate {
  readonly cert: string;
  readonly key: string;
}

/** The path of an installed program; undefined if there is none. */
export function findProgram(name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'];
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}

/** The first line of `program --version`. */
export function versionOf(path: string, flag = '--version'): string {
  return execFileSync(path, [flag], { encoding: 'utf8' }).split('\n')[0] ?? '';
}

/** What processes of these ids have used. */
export function usage(pid: number): Pick<Program, 'cpuSeconds' | 'residentKb'> {
  const pids = (): number[] => [pid, ...childrenOf(pid)];
  return {
    cpuSeconds: () => pids().reduce((sum, id) => sum + cpuOf(id), 0),
    residentKb: () =>
      pids().reduce((sum, id) => {
        const status = readFileSync(`/proc/${id}/status`, 'utf8');
        return sum + Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
      }, 0),
  };
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

/**
 * Behind the name in parentheses, utime and stime are the 12th and 13th field, in ticks of 10 ms
 * (proc(5)).
 */
function cpuOf(pid: number): number {
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const [user = 0, system = 0] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) / 100;
}

/** pgbouncer in session mode, for a backend that lets user alice in. It asks for no password. */
export async function startPgbouncer(
  backend: number,
  { cert, key }: ServerCertificate,
): Promise<Program | undefined> {
  const path = findProgram('pgbouncer');
  if (path === undefined) return undefined;
  const settings = (port: number): string => `
[databases]
postgres = host=127.0.0.1 port=${backend} user=alice dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = session
server_reset_query =
server_check_query =
ignore_startup_parameters = extra_float_digits,options
max_client_conn = 10000
default_pool_size = 200
log_connections = 0
log_disconnections = 0
log_stats = 0
client_tls_sslmode = allow
client_tls_cert_file = ${cert}
client_tls_key_file = ${key}
`;
  return startWith('pgbouncer', settings, (file) => [path, file]);
}

/** haproxy in tcp mode, with one thread like the others. */
export async function startHaproxy(backend: number): Promise<Program | undefined> {
  const path = findProgram('haproxy');
  if (path === undefined) return undefined;
  const settings = (port: number): string => `
global
  maxconn 8000
  nbthread 1
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen postgres
  bind 127.0.0.1:${port}
  server postgres 127.0.0.1:${backend}
`;
  return startWith('haproxy', settings, (file) => [path, '-db', '-f', file]);
}

/** Starts a program on a free port with a file of settings, and waits until it listens. */
async function startWith(
  name: string,
  settings: (port: number) => string,
  command: (file: string) => string[],
): Promise<Program> {
  const directory = mkdtempSync(join(tmpdir(), 'pgsso-bench-'));
  const port = await freePort();
  const file = join(directory, name);
  writeFileSync(file, settings(port));
  chmodSync(directory, 0o755);
  const [path = '', ...args] = command(file);
  // pgbouncer refuses to run as root.
  const { uid, gid } = serverUser();
  const as = uid === undefined || gid === undefined ? {} : { uid, gid };
  const child = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'], ...as });
  let said = '';
  child.stderr.on('data', (text) => {
    said = `${said}${text}`.slice(-2000);
  });
  await listening(child, port, () => said);
  return {
    name,
    port,
    ...usage(child.pid ?? 0),
    async stop() {
      await end(child);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function listening(child: ChildProcess, port: number, said: () => string): Promise<void> {
  for (let tries = 0; tries < 300; tries++) {
    if (child.exitCode !== null) break;
    const socket = connect(port, '127.0.0.1');
    const isUp = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isUp) return;
    await sleep(50);
  }
  await end(child);
  throw new Error(`it does not listen: ${said()}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
