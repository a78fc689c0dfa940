/** Addresses and networks. */
import t from 'tap';
import { addressKey, isInNetworks, isLoopback, parseNetworks } from '../../src/lib/network.ts';

t.test('only addresses of this host are loopback addresses', async (t) => {
  for (const host of ['localhost', '127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1', '[::1]']) {
    t.ok(isLoopback(host), host);
  }
  for (const host of [
    'localhost.example',
    '0.0.0.0',
    '10.0.0.1',
    '::',
    'fe80::1',
    '[::]',
    '[]',
    '',
  ]) {
    t.notOk(isLoopback(host), host);
  }
});

t.test('an address is counted by itself, an IPv6 address by its first 64 bits', async (t) => {
  t.equal(addressKey('10.1.2.3'), '10.1.2.3');
  t.equal(addressKey('::ffff:10.1.2.3'), '10.1.2.3');
  t.equal(addressKey('2001:db8:1:2::1'), addressKey('2001:db8:1:2:ffff:ffff:ffff:ffff'));
  t.not(addressKey('2001:db8:1:2::1'), addressKey('2001:db8:1:3::1'));
  t.equal(addressKey(undefined), '');
});

t.test('a network holds the addresses of its family, mapped ones included', async (t) => {
  const networks = parseNetworks('10.0.0.0/8, 192.168.1.7 2001:db8::/32');
  for (const address of ['10.1.2.3', '::ffff:10.1.2.3', '192.168.1.7', '2001:db8:ffff::1']) {
    t.ok(isInNetworks(address, networks), address);
  }
  for (const address of ['11.0.0.1', '192.168.1.8', '2001:db9::1', 'not an address', undefined]) {
    t.notOk(isInNetworks(address, networks), String(address));
  }
  t.notOk(isInNetworks('2001:db8::1', parseNetworks('0.0.0.0/0')), 'all of IPv4 is not IPv6');
  t.strictSame(parseNetworks(''), []);
});

t.test('a link-local client of any interface is counted, and ends no process', async (t) => {
  for (const zone of ['eth0', 'br-lan', 'eth0.100', 'docker0', 'br-0a1b2c']) {
    t.equal(addressKey(`fe80::1%${zone}`), addressKey('fe80::2'), zone);
    t.ok(isInNetworks(`fe80::1%${zone}`, parseNetworks('fe80::/10')), zone);
  }
});

t.test('an entry that is no network is named', async (t) => {
  for (const entry of ['10.0.0.0/33', '10.0.0.0/-1', '10.0.0/8', '::/129', 'host', '1.2.3.4/8/8']) {
    t.throws(() => parseNetworks(`127.0.0.1,${entry}`), { message: new RegExp(`"${entry}"`) });
  }
});
