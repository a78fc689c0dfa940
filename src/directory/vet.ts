/** Whether the settings that need the directory can be switched on: its role has to be able to do what they ask for. */
import { directorySettings, needsDirectory, type Vet } from '../settings/store.ts';
import type { Directory, DirectoryTask } from './directory.ts';

const tasks: Readonly<Record<(typeof directorySettings)[number], DirectoryTask>> = {
  'security.provisioning.jwt.enabled': 'create',
  'server.jwt_authentication.authorization.enabled': 'grant',
};

/** Asks the directory about the settings that were changed and are on. */
export function vetWithDirectory(directory: Directory): Vet {
  return async (values, changed) => {
    for (const name of directorySettings) {
      if (!values[name] || !changed.has(name)) continue;
      const problem = await directory.problem(tasks[name]);
      if (problem !== undefined) throw needsDirectory(name, `cannot be switched on: --directory: ${problem}`);
    }
  };
}
