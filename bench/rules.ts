/**
 * Measures what the rules cost a login: the CPU to find the line. The rules were compiled when they
 * were set. The line that matches is the last one, so that each line is looked at.
 *
 * Each round measures all variants in random order. PGSSO_BENCH_ROUNDS sets the number of rounds.
 */
import { parseAuthRules, type RuleQuery } from '../src/settings/auth-rules.ts';
import { shuffle, spread } from './statistics.ts';

const ROUNDS = Number(process.env['PGSSO_BENCH_ROUNDS'] ?? 20);
const SEARCHES = 2000;

const login: RuleQuery = {
  address: '10.1.2.3',
  tls: true,
  database: 'sales',
  user: 'alice',
  replication: false,
};

const lines: Readonly<Record<string, (index: number) => string>> = {
  'users by name': (index) => `hostssl sales user_${index} all jwt`,
  'users by expression': (index) => `hostssl sales /^svc_${index}_[a-z]+$ all jwt`,
  networks: (index) => `hostssl sales all 10.${index % 200}.9.0/24 jwt`,
};

const variants = [
  { name: 'no rules', rules: parseAuthRules('') },
  ...Object.entries(lines).flatMap(([name, line]) =>
    [10, 100].map((count) => {
      const text = Array.from({ length: count - 1 }, (_, index) => line(index)).join('\n');
      return { name: `${count}, ${name}`, rules: parseAuthRules(`${text}\nhost all all all jwt`) };
    }),
  ),
];

const results = new Map<string, number[]>(variants.map(({ name }) => [name, []]));
for (let round = 0; round < ROUNDS; round++) {
  for (const { name, rules } of shuffle(variants)) {
    const begin = process.cpuUsage();
    for (let search = 0; search < SEARCHES; search++) rules.find(login);
    const { user, system } = process.cpuUsage(begin);
    // The first round compiles.
    if (round > 0) results.get(name)?.push((user + system) / SEARCHES);
  }
}

process.stdout.write(
  `${ROUNDS - 1} rounds in random order, CPU of a login in µs: median (range)\n`,
);
for (const [name, values] of results)
  process.stdout.write(`${name.padEnd(26)} ${spread(values)}\n`);
