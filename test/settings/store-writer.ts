/**
 * A process that changes a setting until it is done or killed, and prints a line for each
 * acknowledged change.
 */
import type { SettingName } from '../../src/settings/definitions.ts';
import { findSetting } from '../../src/settings/lookup.ts';
import { FileStore } from '../../src/settings/store/file-store.ts';

const [directory = '', setting = '', count = '0'] = process.argv.slice(2);
const name: SettingName = findSetting(setting);
const store = await FileStore.open({
  directory,
  processDefaults: new Map(),
  now: Date.now,
  onProblem: (error) => {
    throw error;
  },
});
for (let number = 1; number <= Number(count); number += 1) {
  await store.change([{ kind: 'set', name, text: String(number) }], 'root');
  process.stdout.write(`${number}\n`);
}
await store.close();
