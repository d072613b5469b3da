// Rooms in a list, and choosing one.

import type { Room } from "../rooms.ts";
import { d } from "../text/deeds.ts";
import { Field } from "./basics.tsx";

export function roomName(room: Room, nameOf: (userId: string) => string): string {
  if (room.name !== null) return room.name;
  return room.others.length === 0 ? d("room.unnamed") : room.others.map(nameOf).join(", ");
}

export function RoomField(props: {
  label: string;
  rooms: readonly Room[];
  value: string;
  onChange: (roomId: string) => void;
}) {
  return (
    <Field id="room" label={props.label}>
      <select id="room" value={props.value} onChange={(event) => props.onChange(event.currentTarget.value)}>
        {props.rooms.map((room) => (
          <option key={room.roomId} value={room.roomId}>
            {roomName(room, (userId) => userId)} ({d("room.members", { n: room.members })})
          </option>
        ))}
      </select>
    </Field>
  );
}
