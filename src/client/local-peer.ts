/**
 * Who is at the other end of a connection to a loopback port. Every user of a machine can connect
 * there, and `pgsso connect` logs in whoever does. Linux lists its connections with their users in
 * /proc/net/tcp (manual page proc_pid_net(5)); other systems have nothing of the kind that Node.js
 * can read, and neither has a TCP connection an SO_PEERCRED.
 */
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { parseAddress } from '../lib/network.ts';

/** The peer's user: this one, another one (root too), or one that this system does not tell. */
export type PeerUser = 'own' | 'other' | 'unknown';

const TABLES = ['/proc/net/tcp', '/proc/net/tcp6'] as const;

/** A table is read in pieces while it changes, so a line can be missed. */
const ATTEMPTS = 3;

/** Whether {@link peerUser} can tell users apart here. */
export async function canTellUsers(): Promise<boolean> {
  return (await readTables()).length > 0;
}

/** The user at the other end of a connection between two sockets of this host. */
export async function peerUser(socket: Socket): Promise<PeerUser> {
  const { remoteAddress = '', remotePort = 0, localAddress = '', localPort = 0 } = socket;
  const wanted = [endpoint(remoteAddress, remotePort), endpoint(localAddress, localPort)];
  const me = process.getuid?.();
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const tables = await readTables();
    if (tables.length === 0 || me === undefined) return 'unknown';
    for (const line of tables.flatMap((table) => table.split('\n'))) {
      const [, local = '', remote = '', , , , , user, , inode] = line.trim().split(/\s+/);
      if (short(local) !== wanted[0] || short(remote) !== wanted[1]) continue;
      // A socket that its process has closed already has no inode, and user 0 in place of its own.
      const isOpen = inode !== undefined && inode !== '0';
      return isOpen && Number(user) === me ? 'own' : 'other';
    }
  }
  return 'other';
}

async function readTables(): Promise<string[]> {
  if (process.platform !== 'linux') return [];
  const tables = await Promise.all(
    TABLES.map((path) => readFile(path, 'latin1').catch(() => undefined)),
  );
  return tables.filter((table) => table !== undefined);
}

/** An address as the tables have it: words of 32 bits in the byte order of the machine. */
function endpoint(address: string, port: number): string {
  const bytes = Buffer.from(parseAddress(address)?.toByteArray() ?? []);
  if (LITTLE_ENDIAN && bytes.length > 0) bytes.swap32();
  const hex = [bytes.toString('hex'), port.toString(16).padStart(4, '0')];
  return hex.join(':').toUpperCase();
}

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** An IPv4 address that is mapped into IPv6, as its IPv4 address. */
function short(entry: string): string {
  return entry.replace(/^0{16}(?:FFFF0000|0000FFFF)/, '');
}
