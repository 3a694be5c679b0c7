package refresh

import "golang.org/x/sys/windows"

func statFS(path string) (*fsStat, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	volume := make([]uint16, windows.MAX_LONG_PATH)
	if err := windows.GetVolumePathName(p, &volume[0], uint32(len(volume))); err != nil {
		return nil, err
	}
	name := make([]uint16, windows.MAX_PATH+1)
	var flags uint32
	if err := windows.GetVolumeInformation(&volume[0], nil, 0, nil, nil, &flags, &name[0], uint32(len(name))); err != nil {
		return nil, err
	}
	st := &fsStat{
		name:     windows.UTF16ToString(name),
		network:  windows.GetDriveType(&volume[0]) == windows.DRIVE_REMOTE,
		readOnly: flags&windows.FILE_READ_ONLY_VOLUME != 0,
	}
	return st, windows.GetDiskFreeSpaceEx(p, &st.free, nil, nil)
}
